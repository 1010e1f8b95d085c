"""The Flask application: blueprints, authentication and error handlers, nothing else."""

from flask import Flask

from .api import auth, errors, health, jobs, predict, secret_address, setup, versions, webhook
from .services import Services

MOST_REQUEST_BYTES = 1 << 29  # tasks arrive with all their annotations: many MB are normal


def create_app(services: Services) -> Flask:
    """An app that speaks Label Studio's dialect on behalf of `services`."""
    app = Flask("cliper", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MOST_REQUEST_BYTES
    app.extensions["services"] = services
    for part in (health, setup, predict, webhook, versions, jobs):
        app.register_blueprint(part.bp)
    app.before_request(auth.require_credentials)
    if services.webhook_secret is not None:
        app.wsgi_app = secret_address.Opened(app.wsgi_app, services.webhook_secret)  # type: ignore[method-assign]
    errors.register(app)
    return app
