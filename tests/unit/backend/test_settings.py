"""The environment, read once; each wrong value one sentence naming its variable."""

import os
from pathlib import Path

import pytest

from backend.errors import BadSetting
from backend.settings import Settings


def test_an_empty_environment_is_fine():
    assert Settings.from_environ({"STORAGE": "memory:"}) == Settings()
    assert Settings().port == 9090
    assert Settings().host == "0.0.0.0"
    assert Settings().predict_budget == 80.0
    assert Settings().waiting_predictions == 6


def test_blank_values_count_as_unset():
    blank = {"PORT": " ", "BASIC_AUTH_USER": "", "BASIC_AUTH_PASS": "", "DEVICE": "", "VAE": ""}

    assert Settings.from_environ({**blank, "STORAGE": "memory:"}) == Settings()
    assert Settings.from_environ({"STORAGE": " "}) == Settings.from_environ({})


def test_what_outlives_a_restart_lies_in_the_users_folder_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))

    at_home = Settings.from_environ({}).storage
    moved = Settings.from_environ({"XDG_DATA_HOME": "/data/of/me"}).storage

    assert at_home == f"sqlite:{tmp_path}/.local/share/cliper/cliper.sqlite"
    assert moved == "sqlite:/data/of/me/cliper/cliper.sqlite"
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_home_the_store_has_to_be_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # nobody in /etc/passwd

    with pytest.raises(BadSetting, match=r"^STORAGE must be set, as sqlite:PATH: there is no HOME"):
        Settings.from_environ({})
    assert Settings.from_environ({"XDG_DATA_HOME": "/data"}).storage.startswith("sqlite:/data/")


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"STORAGE": "sqlite:/data/cliper.sqlite"}, "/data/cliper.sqlite.events"),
        ({"XDG_DATA_HOME": "/mine"}, "/mine/cliper/cliper.sqlite.events"),
        ({"XDG_DATA_HOME": "/mine", "STORAGE": "redis://h:6379/0"}, "/mine/cliper/events"),
        ({"STORAGE": "redis://h:6379/0", "SPOOL_DIR": "/data/events"}, "/data/events"),
        ({"STORAGE": "memory:"}, None),
    ],
)
def test_events_wait_beside_the_store_or_where_somebody_says(
    environment: dict[str, str], folder: str | None
):
    found = Settings.from_environ(environment).spool_dir

    assert found == (None if folder is None else Path(folder))


def test_a_password_of_the_store_is_not_repeated():
    with pytest.raises(BadSetting) as caught:
        Settings.from_environ({"STORAGE": "http://user:secret@host/0"})

    assert "secret" not in str(caught.value)
    assert "sqlite:PATH" in str(caught.value)


def test_auto_leaves_the_device_to_the_hardware():
    settings = Settings.from_environ({"DEVICE": "auto"})

    assert (settings.device, settings.devices, settings.first_device) == (None, (), None)


def test_several_devices_are_named_with_commas():
    settings = Settings.from_environ({"DEVICE": "CUDA:1, cuda:0"})

    assert settings.devices == ("cuda:1", "cuda:0")
    assert settings.first_device == "cuda:1"
    assert Settings.from_environ({"DEVICE": "cpu"}).devices == ("cpu",)


def test_every_known_variable_is_read(tmp_path: Path):
    settings = Settings.from_environ(
        {
            "HOST": "127.0.0.1",
            "PORT": "9191",
            "THREADS": "4",
            "LOG_LEVEL": "debug",
            "BASIC_AUTH_USER": "ls",
            "BASIC_AUTH_PASS": "pw",
            "LABEL_STUDIO_URL": "https://ls.example/sub/",
            "LABEL_STUDIO_API_KEY": "key",
            "VERIFY_SSL": "false",
            "LOCAL_FILES_DOCUMENT_ROOT": str(tmp_path),
            "PRIVATE_HOSTS": " minio.LAN:9000, store., [fd00::7]:9001,,10.0.0.8",
            "PROFILE": "demo",
            "METHOD": "proxyclip",
            "FEATURES": "dino-vits8",
            "STUDENT": "/models/student.safetensors",
            "VAE": "TAESD",
            "DEVICE": "cuda:1",
            "DTYPE": "float16",
            "MODEL_DIR": "/models",
            "MODEL_SCORE_THRESHOLD": "0.25",
            "MODEL_SMOOTH": "2",
            "MAX_MODELS": "3",
            "BATCH": "16",
            "TILE_ABOVE_MEGAPIXELS": "20",
            "MAX_BRUSH_MEGAPIXELS": "9",
            "STATE_CACHE_MB": "12",
            "PREDICT_BUDGET": "50",
            "FETCH_TIMEOUT": "7.5",
            "MAX_IMAGE_MB": "10",
            "MAX_IMAGE_MEGAPIXELS": "12",
            "RESULT_CACHE_MB": "0",
            "STORAGE": "redis://:pw@store:6379/1",
            "LEARNING_MOST_TASKS": "50",
            "STORAGE_BLOBS_MB": "5",
            "SPOOL_DIR": "/spool",
        }
    )

    assert settings == Settings(
        host="127.0.0.1",
        port=9191,
        threads=4,
        log_level="DEBUG",
        basic_auth=("ls", "pw"),
        label_studio_url="https://ls.example/sub",
        label_studio_api_key="key",
        verify_ssl=False,
        local_files_document_root=tmp_path,
        private_hosts=(("minio.lan", 9000), ("store", None), ("fd00::7", 9001), ("10.0.0.8", None)),
        profile="demo",
        method="proxyclip",
        features="dino-vits8",
        student=Path("/models/student.safetensors"),
        vae="taesd",
        device="cuda:1",
        dtype="float16",
        model_dir=Path("/models"),
        options={"model_score_threshold": 0.25, "model_smooth": 2},
        max_models=3,
        batch=16,
        predict_budget=50.0,
        fetch_timeout=7.5,
        max_image_mb=10.0,
        max_image_megapixels=12.0,
        tile_above_megapixels=20.0,
        max_brush_megapixels=9.0,
        result_cache_mb=0.0,
        state_cache_mb=12.0,
        storage="redis://:pw@store:6379/1",
        learning_most_tasks=50,
        storage_blobs_mb=5.0,
        spool_dir=Path("/spool"),
    )


@pytest.mark.parametrize(
    ("older", "newer", "name"),
    [
        ("LABEL_STUDIO_HOST", "LABEL_STUDIO_URL", "label_studio_url"),
        ("LABEL_STUDIO_ACCESS_TOKEN", "LABEL_STUDIO_API_KEY", "label_studio_api_key"),
    ],
)
def test_older_names_serve_where_the_newer_is_not_set(older: str, newer: str, name: str):
    assert getattr(Settings.from_environ({older: "http://old"}), name) == "http://old"
    both = Settings.from_environ({older: "http://old", newer: "http://new"})
    assert getattr(both, name) == "http://new"


def test_the_start_script_s_names_for_the_password_serve_too():
    environ = {"ML_SERVER_BASIC_AUTH_USER": "a", "ML_SERVER_BASIC_AUTH_PASS": "b"}

    assert Settings.from_environ(environ).basic_auth == ("a", "b")


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("PORT", "99999", "PORT must be a whole number from 0 to 65535, got '99999'"),
        ("PORT", "http", "PORT must be a whole number from 0 to 65535, got 'http'"),
        ("THREADS", "2", "THREADS must be a whole number from 3 to 256, got '2'"),
        ("BATCH", "0", "BATCH must be a whole number from 1 to 64, got '0'"),
        ("BATCH", "65", "BATCH must be a whole number from 1 to 64, got '65'"),
        ("THREADS", "4.5", "THREADS must be a whole number from 3 to 256, got '4.5'"),
        (
            "LOG_LEVEL",
            "loud",
            "LOG_LEVEL must be one of DEBUG, INFO, WARNING, ERROR, CRITICAL, got 'loud'",
        ),
        (
            "DEVICE",
            "gpu",
            "DEVICE must be auto, cpu, cuda, cuda:<number> or mps, or several with commas, "
            "got 'gpu'",
        ),
        (
            "DEVICE",
            "cuda:0,",
            "DEVICE must be auto, cpu, cuda, cuda:<number> or mps, or several with commas, "
            "got 'cuda:0,'",
        ),
        ("DEVICE", "cuda:1,cuda:1", "DEVICE must name each device once, got 'cuda:1,cuda:1'"),
        ("DEVICE", "cuda,cuda:0", "DEVICE must name each device once, got 'cuda,cuda:0'"),
        (
            "DEVICE",
            "cuda:0,cpu",
            "DEVICE must name devices of one kind, since others give other masks for the same "
            "version, got 'cuda:0,cpu'",
        ),
        (
            "DEVICE",
            ",".join(f"cuda:{number}" for number in range(17)),
            "DEVICE must name 16 devices at most, got 17",
        ),
        ("DTYPE", "int4", "DTYPE must be one of float32, float16, bfloat16, int8, got 'int4'"),
        ("VAE", "taef1", "VAE must be one of taesd, got 'taef1'"),
        (
            "LABEL_STUDIO_URL",
            "localhost:8080",
            "LABEL_STUDIO_URL must look like http://label-studio.example:8080, "
            "got 'localhost:8080'",
        ),
        (
            "LABEL_STUDIO_HOST",
            "ftp://x",
            "LABEL_STUDIO_HOST must look like http://label-studio.example:8080, got 'ftp://x'",
        ),
        ("VERIFY_SSL", "maybe", "VERIFY_SSL must be true or false, got 'maybe'"),
        (
            "MODEL_SCORE_THRESHOLD",
            "2",
            "MODEL_SCORE_THRESHOLD must be a number from 0 to 1, got '2'",
        ),
        ("SCORE_THRESHOLD", "nan", "SCORE_THRESHOLD must be a number from 0 to 1, got 'nan'"),
        *(
            (
                "PRIVATE_HOSTS",
                f"minio:9000, {wrong}",
                "PRIVATE_HOSTS must list hosts such as minio.lan:9000, got "
                + repr(wrong.replace("me@", "***@")),  # it may be a password
            )
            for wrong in (
                "http://minio:9000",
                "minio:9000/bucket",
                "me@minio",
                "minio:",
                ":9000",
                "minio:0",
                "minio:port",
                "*.lan",
                "[fd00::7",
                "mi nio",
            )
        ),
        ("PREDICT_BUDGET", "0", "PREDICT_BUDGET must be a number from 1 to 3600, got '0'"),
        (
            "LOCAL_FILES_DOCUMENT_ROOT",
            "/nowhere/at/all",
            "LOCAL_FILES_DOCUMENT_ROOT must be an existing folder, got '/nowhere/at/all'",
        ),
        ("BASIC_AUTH_USER", "a", "BASIC_AUTH_PASS must be set too, since BASIC_AUTH_USER is"),
        ("BASIC_AUTH_PASS", "b", "BASIC_AUTH_USER must be set too, since BASIC_AUTH_PASS is"),
    ],
)
def test_each_wrong_value_names_its_variable(variable: str, value: str, sentence: str):
    with pytest.raises(BadSetting) as caught:
        Settings.from_environ({variable: value})

    assert str(caught.value) == sentence


def test_a_colon_in_the_user_name_cannot_be_sent():
    with pytest.raises(BadSetting, match="BASIC_AUTH_USER must not hold a colon"):
        Settings.from_environ({"BASIC_AUTH_USER": "a:b", "BASIC_AUTH_PASS": "c"})


@pytest.mark.parametrize("variable", ["API_TOKEN", "WEBHOOK_SECRET"])
@pytest.mark.parametrize(
    "secret", ["short", "a" * 15, "a" * 201, "with/slash-and-more", "ümlaut-" * 4]
)
def test_a_secret_that_is_no_good_is_refused_without_being_shown(variable: str, secret: str):
    with pytest.raises(BadSetting) as caught:
        Settings.from_environ({variable: secret})

    assert str(caught.value).startswith(f"{variable} must be 16 to 200 letters, digits, - or _")
    assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LABEL_STUDIO_URL", "http://me:geheim@label-studio:8080"),
        ("LABEL_STUDIO_URL", "http://label-studio:8080/?token=geheim"),
        ("PRIVATE_HOSTS", "me:geheim@minio.lan"),
        ("STORAGE", "redsi://:geheim@redis:6379/0"),
    ],
)
def test_a_wrong_address_is_told_without_its_password(variable: str, value: str):
    with pytest.raises(BadSetting, match=variable) as caught:
        Settings.from_environ({variable: value})

    assert "geheim" not in str(caught.value)


def test_printed_settings_show_no_secret():
    environ = {
        "LABEL_STUDIO_API_KEY": "f" * 40,
        "BASIC_AUTH_USER": "studio",
        "BASIC_AUTH_PASS": "geheim",
        "API_TOKEN": "token-" * 4,
        "WEBHOOK_SECRET": "secret-" * 4,
        "STORAGE": "redis://:password@redis:6379/0",
    }

    printed = repr(Settings.from_environ(environ))

    for secret in ("f" * 40, "geheim", "token-", "secret-", "password"):
        assert secret not in printed


def test_one_private_host_of_ipv6_is_known_by_every_spelling():
    read = Settings.from_environ({"PRIVATE_HOSTS": "[fd00:0:0::7]:9000"})

    assert read.private_hosts == (("fd00::7", 9000),)
