"""The Flask application: blueprints, authentication and error handlers, nothing else."""

from flask import Flask

from .api import auth, body, errors, health, jobs, predict, setup, versions, webhook
from .services import Services


def create_app(services: Services) -> Flask:
    """An app that speaks Label Studio's dialect on behalf of `services`."""
    app = Flask("cliper", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.most_request_bytes
    app.extensions["services"] = services
    for part in (health, setup, predict, webhook, versions, jobs):
        app.register_blueprint(part.bp)
    app.before_request(auth.require_basic_auth)
    app.before_request(body.refuse_compressed)
    errors.register(app)
    return app
