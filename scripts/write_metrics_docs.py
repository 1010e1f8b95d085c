"""Write docs/reference/metrics.md from the list of metrics and the alert rules.

    python scripts/write_metrics_docs.py

A test compares the page with both, so it cannot fall behind.
"""

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "metrics.md"
ALERTS = ROOT / "docker" / "prometheus" / "alerts.yml"

INTRODUCTION = """\
# Health, metrics and logs

Made from the list of metrics (`backend/metrics/catalogue.py`) and the alert rules (`docker/prometheus/alerts.yml`) by `python scripts/write_metrics_docs.py`.

## Is it well?

| address | answers | password |
| --- | --- | --- |
| `/health` | always 200 and at once: `status` is `UP`, `degraded` lists one sentence per thing that is not as it should be, and the rest says what runs | asked for where one is set; without it 401, as Label Studio shows an admin that way that the pair is wrong |
| `/ready` | 200 while predictions work, 503 and why otherwise: the model is on its way or could not be loaded, or no device takes work. With several devices one that works is enough. A store that is away changes nothing. A model that failed is tried again after a minute when this is asked | never |
| `/metrics` | everything below, in Prometheus's text format | asked for where one is set, unless `METRICS_OPEN=true` |

Under `degraded`: a model that could not be loaded, a device that is out while others work, a store that is away, learning events or jobs that wait, fallbacks in effect (weights unlike those the method was made for, batches that are smaller
since memory ran out). Predictions go on with all of them but the first.

None of the three asks anybody: not the device, not the store, not Label Studio. A store that was away is asked again in the background.

## Metrics

Every process has its own numbers, since its start. A label takes one of few words, never anything that came with a request. On systems without `/proc` the `process_` metrics are missing.

"""  # noqa: E501 - a page

ALERTING = """\

## What to alert on

These rules are in `docker/prometheus/alerts.yml`, which the compose profile uses.

"""

REST = """\

## Graphs

```shell
docker compose --profile monitoring up --detach
```

starts Prometheus (http://localhost:9091) and Grafana (http://localhost:3000, first login admin, admin) beside the service, both for this machine only, with the dashboard
`docker/grafana/dashboards/cliper.json` in place. Nothing secret is in these files. With a password set, give the service `METRICS_OPEN=true` if nobody else reaches its port, or give Prometheus the pair
(`basic_auth` with a `password_file`, in `docker/prometheus/prometheus.yml`).

With a Prometheus and a Grafana of your own, take `alerts.yml` and import `cliper.json`; its data source has the uid `prometheus`.

The backend SDK's own server ([adapter](../how-to/run-on-the-backend-sdk.md)) knows neither `/ready` nor these metrics; what it answers at `/metrics` is its own.

## Logs

Every request has an id: its header `X-Request-ID` where that is at most 64 letters, digits, dots, dashes and underscores, else one of ours. The answer carries it in the same header, and so does every line of
the log that is written on the request's behalf, also by the threads that own the device, fetch pictures or write to the store; with the number of the task where there is a single one. Of requests that
share a piece of work, lines about it name the one that asked first; of a batch of pictures, what all have in common.

`LOG_FORMAT=text` (as it is by default) writes lines for people:

```text
2026-11-28 22:31:05,120 WARNING backend.predictor: task 12 not predicted: ... [request 9f86d081884c7d65, task 12]
```

`LOG_FORMAT=json` writes one object per line, gunicorn's own lines included, always with the same keys:

```json
{"time": "2026-11-28T22:31:05.120+00:00", "level": "WARNING", "logger": "backend.predictor",
 "message": "task 12 not predicted: ...", "request_id": "9f86d081884c7d65", "task_id": "12", "exception": null}
```

`task_id` is a text, as Label Studio's numbers may be; `exception` is a traceback as one text. A setting that ends the start is one plain sentence in either case, as no service runs then.
"""  # noqa: E501 - a page


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def page() -> str:
    """The whole page as Markdown."""
    from backend.metrics.catalogue import CATALOGUE

    lines = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in CATALOGUE:
        labels = "; ".join(
            f"`{name}`: "
            + (
                may
                if isinstance(may, str)
                else ", ".join(f"`{word}`" if word else "empty" for word in may)
            )
            for name, may in metric.labels.items()
        )
        lines.append(
            f"| `{metric.name}` | {metric.kind} | {cell(labels) or '–'} | {cell(metric.meaning)} |"
        )
    text = INTRODUCTION + "\n".join(lines) + "\n" + ALERTING
    rows = [
        "| alert | when | for | what it means | what to do |",
        "| --- | --- | --- | --- | --- |",
    ]
    for rule in rules():
        told = rule["annotations"]
        rows.append(
            f"| {rule['alert']} | `{rule['expr']}` | {rule.get('for', '–')} "
            f"| {cell(told['summary'])} | {cell(told['action'])} |"
        )
    return text + "\n".join(rows) + "\n" + REST


def rules() -> list[dict]:
    """Every alert rule, as Prometheus reads it."""
    content = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in content["groups"] for rule in group["rules"]]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
