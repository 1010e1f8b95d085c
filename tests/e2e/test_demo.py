"""`cliper demo`, as a stranger runs it: shipped weights, real Label Studio, honest report."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from backend.demo.label_studio_server import Installation

from .conftest import CHECKOUT, TEMPLATES


@pytest.fixture
def demo_command(installation: Installation, tmp_path: Path) -> list[str]:
    return [
        sys.executable, "-m", "backend", "demo", "--out", str(tmp_path / "out"),
        "--label-studio", str(installation.program), "--templates", str(TEMPLATES),
    ]  # fmt: skip


@pytest.mark.timeout(900)
def test_the_shipped_weights_are_good_enough_through_the_whole_chain(
    demo_command: list[str], tmp_path: Path
):
    done = subprocess.run(
        [*demo_command, "--once"], cwd=CHECKOUT, capture_output=True, text=True, timeout=880
    )

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["passed"] is True
    assert report["model_version"].startswith("demo")
    figures = report["all_labels"]
    assert figures["mean_iou_percent"] >= 45
    assert figures["presence_precision_percent"] >= 80
    assert figures["presence_recall_percent"] >= 80
    assert figures["false_regions_per_picture"] <= 0.7
    empty = {line["what"]: line["value"] for line in report["lines"] if "painted" in line["what"]}
    assert len(empty) == 2
    assert min(empty.values()) >= 90
    sheet = np.asarray(Image.open(tmp_path / "out" / "contact-sheet.png"))
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000  # not an empty page


@pytest.fixture
def running_demo(demo_command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        demo_command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def test_ctrl_c_ends_both_servers_and_leaves_no_process_behind(
    running_demo: subprocess.Popen[str],
):
    assert running_demo.stdout is not None
    for line in running_demo.stdout:
        if line.startswith("Storybook, all labels"):  # both servers are up
            break
    family = psutil.Process(running_demo.pid).children(recursive=True)
    assert len(family) >= 3  # Label Studio, our service and its worker

    running_demo.send_signal(signal.SIGINT)
    running_demo.stdout.read()

    assert running_demo.wait(60) == 130
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_a_missing_label_studio_ends_with_one_sentence(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "backend", "demo", "--label-studio", str(tmp_path / "nowhere")],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("cliper: Label Studio is not installed (looked for ")
    assert len(done.stderr.splitlines()) == 1
