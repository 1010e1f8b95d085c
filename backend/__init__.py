"""The service: open-vocabulary masks for Label Studio. Run it with `python -m backend serve`."""
