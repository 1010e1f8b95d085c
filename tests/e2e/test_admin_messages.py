"""What an administrator reads in Label Studio when something is wrong with the connection."""

import pytest

from backend.demo.annotate import answer_of
from backend.demo.errors import Refused
from backend.demo.label_studio_api import LabelStudioApi
from backend.demo.label_studio_server import LabelStudioServer
from backend.demo.processes import free_port

from .conftest import StartService
from .pictures import TWO_BOXES, brush_config

LOGIN = {"BASIC_AUTH_USER": "studio", "BASIC_AUTH_PASS": "s3cret-word"}


def what_connecting_says(api: LabelStudioApi, service: str, config: str, **fields: str) -> str:
    """The message Label Studio refuses the connection with."""
    project = api.create_project("messages", config)
    with pytest.raises(Refused) as refusal:
        api.connect(project, service, **fields)
    return refusal.value.message


def test_a_service_that_is_not_running_is_called_unreachable(api: LabelStudioApi):
    said = what_connecting_says(api, f"http://localhost:{free_port()}", brush_config(("red",)))

    assert "Can't connect to ML backend" in said
    assert "Connection refused" in said


def test_a_config_without_a_tag_we_can_fill_is_named_in_one_sentence(
    api: LabelStudioApi, service: str
):
    only_a_tool = (
        '<View><Image name="photo" value="$image"/><KeyPointLabels name="tips" toName="photo" '
        'smart="true"><Label value="red"/></KeyPointLabels></View>'
    )

    said = what_connecting_says(api, service, only_a_tool)

    assert "422 Client Error" in said
    assert "'tips' is marked smart" in said


def test_a_config_whose_labels_all_mean_the_rest_is_refused_with_a_sentence(
    api: LabelStudioApi, service: str
):
    said = what_connecting_says(api, service, brush_config(("Background", "Other")))

    assert "422 Client Error" in said
    assert "label" in said


def test_a_word_the_model_was_not_trained_on_is_named(api: LabelStudioApi, service: str):
    said = what_connecting_says(api, service, brush_config(("red", "mauve")))

    assert "422 Client Error" in said
    assert "'mauve'" in said


def test_a_wrong_password_of_the_service_is_called_wrong(
    api: LabelStudioApi, label_studio: LabelStudioServer, start_colour_service: StartService
):
    service = start_colour_service(label_studio, **LOGIN)

    said = what_connecting_says(
        api,
        service,
        brush_config(("red",)),
        auth_method="BASIC_AUTH",
        basic_auth_user="studio",
        basic_auth_pass="wrong",
    )

    assert "authentication parameters were either not provided or are incorrect" in said


def test_with_the_right_password_the_service_connects_and_predicts(
    api: LabelStudioApi, label_studio: LabelStudioServer, start_colour_service: StartService
):
    service = start_colour_service(label_studio, **LOGIN)
    project = api.create_project("password", brush_config(("red", "blue")))
    api.upload(project, {"two.png": TWO_BOXES.to_png()})

    connection = api.connect(
        project,
        service,
        auth_method="BASIC_AUTH",
        basic_auth_user=LOGIN["BASIC_AUTH_USER"],
        basic_auth_pass=LOGIN["BASIC_AUTH_PASS"],
    )
    api.retrieve_predictions(project)

    assert connection["readable_state"] == "Connected"
    (found,) = api.predictions(project)
    assert answer_of(found).masks.keys() == {"red", "blue"}
