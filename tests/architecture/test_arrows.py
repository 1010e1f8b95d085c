"""Who may lean on whom; the picture is in CONTRIBUTING.md."""

import ast

from .source import Module, imports, modules, parts_used, top_level

HOUSE = modules()
ERRORS = "backend.errors"  # the vocabulary of what can go wrong; everybody in backend speaks it

CORE = {  # the use case and what it is made of
    "backend.predictor",
    "backend.clicks",
    "backend.crew",
    "backend.desks",
    "backend.plan",
    "backend.fetching",
    "backend.looking",
    "backend.painting",
    "backend.prompting",
    "backend.streaming",
    "backend.keeping",
    "backend.lessons",
    "backend.studying",
    "backend.outcomes",
    "backend.advice",
    "backend.condition",
    "backend.batching",
    "backend.model_host",
    "backend.model_pool",
    "backend.device",
    "backend.result_cache",
    "backend.row_shelf",
    "backend.vocabulary",
    "backend.services",
}
WATCHED = {"backend.metrics", "backend.trail"}  # what is counted and told of whoever works
LEAVES = {"backend.labelstudio", "backend.images", "backend.storage"}
EVERYTHING = {  # may lean on anything
    "backend.__main__",
    "backend.adapter",
    "backend.cli",
    "backend.demo",
    "backend.doctor",
    "backend.wiring",
}

ALLOWED: dict[str, set[str]] = {
    "cliper_model": set(),
    ERRORS: set(),
    "backend.settings": {ERRORS, "backend.labelstudio", "backend.storage"},
    **{leaf: {ERRORS} for leaf in LEAVES | WATCHED},
    "backend.logs": {"backend.trail"},
    "backend.jobs": {ERRORS, "backend.storage"},
    **{part: {ERRORS, "cliper_model", *LEAVES, *WATCHED, *CORE} for part in CORE},
    "backend.services": {
        ERRORS,
        "cliper_model",
        "backend.jobs",
        "backend.learning",
        "backend.playground",
        "backend.prelabel",
        "backend.projects",
        *LEAVES,
        *WATCHED,
        *CORE,
    },
    "backend.learning": {
        ERRORS,
        "cliper_model",
        "backend.jobs",
        "backend.labelstudio",
        "backend.prelabel",
        "backend.storage",
        "backend.studio",
        *WATCHED,
        *CORE,
    },
    "backend.api": {
        ERRORS,
        "cliper_model",
        "backend.jobs",
        "backend.learning",
        "backend.labelstudio",
        "backend.playground",
        "backend.projects",
        *WATCHED,
        *CORE,
    },
    "backend.playground": {
        ERRORS,
        "cliper_model",
        "backend.labelstudio",
        "backend.overlay",
        "backend.studio",
        *CORE,
    },
    "backend.overlay": {"cliper_model"},
    "backend.redaction": set(),
    "backend.studio": {ERRORS, "backend.images", "backend.labelstudio"},
    "backend.prelabel": {
        ERRORS,
        "cliper_model",
        "backend.jobs",
        "backend.labelstudio",
        "backend.overlay",
        "backend.storage",
        "backend.studio",
        "backend.trail",
        *CORE,
    },
    "backend.dataset": {
        ERRORS,
        "backend.labelstudio",
        "backend.prelabel",
        "backend.studio",
        *CORE,
    },
    "backend.report": {
        ERRORS,
        "cliper_model",
        "backend.fetching",
        "backend.images",
        "backend.labelstudio",
        "backend.overlay",
        "backend.prelabel",
        "backend.studio",
    },
    "backend.projects": {
        ERRORS,
        "backend.fetching",
        "backend.images",
        "backend.jobs",
        "backend.learning",
        "backend.lessons",
        "backend.prelabel",
        "backend.redaction",
        "backend.report",
        "backend.storage",
        "backend.studio",
    },
    "backend.app": {"backend.api", "backend.services"},
}


def test_every_part_of_the_house_has_its_arrows_drawn() -> None:
    """A new part is drawn here and in CONTRIBUTING.md."""
    parts = {module.part for module in HOUSE} - EVERYTHING - {"backend"}
    assert parts <= set(ALLOWED)


def test_arrows_only_point_one_way() -> None:
    wrong = {
        module.name: sorted(against)
        for module in HOUSE
        if module.part not in EVERYTHING
        and (against := parts_used(module) - ALLOWED.get(module.part, {ERRORS}))
    }
    assert not wrong


def importers(*libraries: str) -> set[str]:
    return {
        module.name
        for module in HOUSE
        if any(top_level(name) in libraries for name in imports(module))
    }


def test_the_model_has_never_heard_of_the_service() -> None:
    strangers = importers(
        "backend", "flask", "werkzeug", "gunicorn", "redis", "label_studio_ml", "label_studio_sdk"
    )
    assert not {name for name in strangers if name.startswith("cliper_model")}


def test_one_file_imports_the_backend_sdk() -> None:
    assert importers("label_studio_ml") == {"backend.adapter.model"}


def test_redis_is_spoken_to_in_one_file_as_a_store_and_in_one_as_a_queue() -> None:
    assert importers("redis") == {"backend.storage.redis", "backend.jobs.dramatiq_runner"}
    assert importers("dramatiq") == {"backend.jobs.dramatiq_runner"}


def test_ray_is_spoken_to_in_two_files_and_parquet_in_one_part() -> None:
    assert importers("ray") == {"backend.dataset.ray_engine", "backend.dataset.ray_files"}
    assert all(name.startswith("backend.dataset.") for name in importers("pyarrow"))


def test_metrics_are_counted_and_printed_in_one_place() -> None:
    assert importers("prometheus_client") == {"backend.metrics.meters", "backend.metrics.scrape"}


def test_only_the_rim_speaks_http() -> None:
    flask = {name for name in importers("flask", "werkzeug") if "backend.api" not in name}
    assert flask <= {"backend.app", "backend.adapter.model"}
    assert importers("gunicorn") <= {"backend.cli.serve"}


def test_inside_the_packages_imports_are_relative() -> None:
    """`backend` is a name others use too; a relative import cannot land in theirs."""
    scripts = {"backend.adapter._wsgi"}  # the SDK's tool runs it as a script
    for module in HOUSE:
        if module.name not in scripts and module.part != "cliper_model":
            tops = {top_level(name) for name in absolute(module)}
            assert "backend" not in tops, module.name


def absolute(module: Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    return names
