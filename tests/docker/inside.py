"""Plays the container engine for one service: run in namespaces of its own, as their process 1.

    unshare --mount --net --pid --fork --kill-child python inside.py WISH

WISH is a file: {"root": empty folder, "data": folder that becomes /data, "source": checkout,
"interpreter": folder of Python, "packages": its virtual environment, which becomes /opt/cliper as
in the images, "environment": {...}, "entrypoint": [...], "user": id, "requests": [[method, path,
body or null], ...], "patience": seconds until the model must be ready}.

Builds a root of what an image holds, read-only but for /data and /tmp, starts the entrypoint there
as that user without any right, waits until the model is ready, sends the requests, asks the health
check, sends SIGTERM, and prints what came of it as one JSON object. Only the standard library,
since it is loaded before the root is.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")  # of a Debian
PYTHON = "/opt/cliper/bin/python"
DEVICES = ("null", "zero", "full", "random", "urandom")
ENDS_WITHIN = 60.0  # seconds after SIGTERM
STILL = 0.1  # seconds between two questions whether the model is ready


def main() -> int:
    wish = json.loads(Path(sys.argv[1]).read_text())
    build(wish)
    os.chroot(wish["root"])
    os.chdir("/data")
    print(json.dumps(serve(wish)))
    return 0


def mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def shown(outside: Path, inside: Path) -> None:
    """A folder or file of the machine inside the root, not to be written."""
    inside.parent.mkdir(parents=True, exist_ok=True)
    inside.mkdir() if outside.is_dir() else inside.touch()
    mount("--bind", outside, inside)
    mount("-o", "remount,bind,ro", inside)


def build(wish: dict[str, Any]) -> None:
    """The root: a Debian, the interpreter, our two packages and what docker/ adds."""
    root, source = Path(wish["root"]), Path(wish["source"])
    mount("-t", "tmpfs", "-o", "mode=755", "image", root)
    for name in SYSTEM:
        outside = Path("/", name)
        if outside.is_symlink():  # /bin is usr/bin today
            (root / name).symlink_to(os.readlink(outside))
        elif outside.is_dir():
            shown(outside, root / name)
    interpreter = Path(wish["interpreter"])
    if not (root / interpreter.relative_to("/")).exists():  # the system's own is there by now
        shown(interpreter, root / interpreter.relative_to("/"))
    shown(Path(wish["packages"]), root / "opt" / "cliper")

    for name in ("cliper_model", "backend"):
        shown(source / name, root / "image" / name)
    for name in ("entrypoint.sh", "healthcheck.py"):
        shown(source / "docker" / name, root / "image" / "bin" / name)
    cliper = root / "image" / "bin" / "cliper"
    cliper.write_text(f'#!/bin/sh\nexec {PYTHON} -m backend "$@"\n')
    cliper.chmod(0o755)

    etc = root / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(
        f"root:x:0:0::/root:/bin/sh\ncliper:x:{wish['user']}:{wish['user']}::/home/cliper:/bin/sh\n"
    )
    (etc / "group").write_text(f"root:x:0:\ncliper:x:{wish['user']}:\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n")
    for name in ("ld.so.cache", "ld.so.conf"):
        if Path("/etc", name).is_file():
            shutil.copy(f"/etc/{name}", etc)

    for name in DEVICES:
        device = root / "dev" / name
        device.parent.mkdir(exist_ok=True)
        device.touch()
        mount("--bind", f"/dev/{name}", device)
    for name in ("proc", "dev/shm", "tmp", "data", "home/cliper"):
        (root / name).mkdir(parents=True)
    os.chown(root / "home" / "cliper", wish["user"], wish["user"])
    mount("-t", "proc", "proc", root / "proc")
    mount("-t", "tmpfs", "-o", "mode=1777,noexec,nosuid,nodev", "shm", root / "dev" / "shm")
    mount("-t", "tmpfs", "-o", "mode=1777,noexec,nosuid,nodev", "tmp", root / "tmp")
    mount("--bind", wish["data"], root / "data")
    mount("-o", "remount,ro", root)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def serve(wish: dict[str, Any]) -> dict[str, Any]:
    """The entrypoint from its start to its end."""
    as_user = [
        *("setpriv", "--reuid", str(wish["user"]), "--regid", str(wish["user"])),
        *("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"),
    ]
    environment = {**wish["environment"], "PYTHONPATH": "/image"}
    probe = subprocess.run(
        [*as_user, PYTHON, "-c", PROBE],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = {"probe": json.loads(probe.stdout)}
    with open("/data/log", "wb") as log:
        service = subprocess.Popen(
            [*as_user, *wish["entrypoint"]], env=environment, stdout=log, stderr=log
        )
    url = f"http://127.0.0.1:{environment['PORT']}"
    try:
        found["health"] = when_ready(url, service, wish["patience"])
        found["answers"] = [asked(url, *request) for request in wish["requests"]]
        found["healthcheck"] = subprocess.run(
            [*as_user, PYTHON, "/image/bin/healthcheck.py"],
            env=environment,
            capture_output=True,
        ).returncode
        service.send_signal(signal.SIGTERM)
        found["exit"] = service.wait(ENDS_WITHIN)
    finally:
        service.kill()
        service.wait()
        found["log"] = Path("/data/log").read_text(errors="replace")
        Path("/data/log").unlink()
        if sys.exc_info()[0] is not None:
            print(found["log"], file=sys.stderr)
    found["data"] = kept("/data")
    found["tmp"] = kept("/tmp") + kept("/dev/shm")
    return found


# What the service's own user sees: who it is, what it may do, and what it can write.
PROBE = """
import json, os, socket
def writes(folder):
    try:
        with open(folder + "/probe", "w"):
            pass
        os.remove(folder + "/probe")
        return True
    except OSError:
        return False
folders = ("/", "/etc", "/usr", "/home/cliper", "/image", "/image/backend", "/data", "/tmp")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "user": os.getuid(),
    "writable": [folder for folder in folders if writes(folder)],
    "rights": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": int(status["NoNewPrivs"]),
    "networks": [name for _, name in socket.if_nameindex()],
}))
"""


def asked(url: str, method: str, path: str, body: Any) -> dict[str, Any]:
    """Status and content of one answer."""
    content = None if body is None else json.dumps(body).encode()
    question = urllib.request.Request(
        url + path, content, {"Content-Type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(question, timeout=120) as answer:
            return {"status": answer.status, "body": json.loads(answer.read())}
    except urllib.error.HTTPError as error:
        with error:
            return {"status": error.code, "body": error.read().decode(errors="replace")}


def when_ready(url: str, service: subprocess.Popen[bytes], patience: float) -> dict[str, Any]:
    """What `/health` says once the model is there."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise SystemExit(f"the service ended by itself with status {service.returncode}")
        try:
            health: dict[str, Any] = asked(url, "GET", "/health", None)["body"]
        except OSError:
            health = {}
        if health and health["model"]["state"] in ("ready", "failed"):
            return health
        time.sleep(STILL)
    raise SystemExit(f"the model was not ready after {patience} s")


def kept(folder: str) -> list[str]:
    """Every file below a folder."""
    return sorted(
        os.path.join(place, name) for place, _, files in os.walk(folder) for name in files
    )


if __name__ == "__main__":
    sys.exit(main())
