"""The Flask application: blueprints, authentication and error handlers, nothing else."""

from flask import Flask

from .api import (
    auth,
    body,
    counting,
    errors,
    health,
    jobs,
    metrics,
    openapi,
    predict,
    ready,
    request_id,
    secret_address,
    setup,
    ui,
    ui_projects,
    versions,
    webhook,
)
from .services import Services


def create_app(services: Services) -> Flask:
    """An app that speaks Label Studio's dialect on behalf of `services`."""
    app = Flask("cliper", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.most_request_bytes
    app.extensions["services"] = services
    for part in (health, ready, setup, predict, webhook, versions, jobs, openapi):
        app.register_blueprint(part.bp)
    if services.playground is not None:
        app.register_blueprint(ui.bp)
        app.register_blueprint(ui_projects.bp)
    app.register_blueprint(metrics.bp, name=metrics.name(open_to_all=services.open_metrics))
    request_id.register(app)
    counting.register(app)
    app.before_request(auth.require_credentials)
    app.before_request(body.refuse_compressed)
    if services.webhook_secret is not None:
        app.wsgi_app = secret_address.Opened(app.wsgi_app, services.webhook_secret)  # type: ignore[method-assign]
    errors.register(app)
    return app
