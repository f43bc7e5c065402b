"""Credentials are not sent unless the user allows it; values with similar names are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.capture.ship.secrets import looks_secret, named_secret

TOKEN = "ghp_" + "a1B2" * 9
LOOKS = [
    TOKEN,
    "github_pat_" + "a1B2" * 9,
    "hf_" + "aBcD" * 8,
    "sk-" + "a1B2" * 9,
    "sk-ant-api03-" + "a1B2" * 9,
    "AKIA" + "ABCD" * 4,
    "xoxb-" + "123456789012-abcdef",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    "postgres://me:hunter2@db.example.org/x",
    "npm_" + "a1B2" * 9,
    "dapi" + "0123456789abcdef" * 2,
    "Bearer " + "hf_" + "aBcD" * 8,
    "Authorization: Bearer q8Zt3kPw91xxq8Zt",
    "r8_" + "q8Zt3kPw91xxLm4V" * 2,  # the form is known, whoever it is from
    "acme_live_" + "q8Zt3kPw91xxLm4VzR7s",
    "git clone https://" + TOKEN + "@github.com/me/private",
    "pip install --index-url https://me:q8Zt3kPw91@pypi.example.org/simple thing",
    "//registry.npmjs.org/:_authToken=npm_" + "a1B2" * 9,
    "host=db.example.org user=me password=hunter2 dbname=runs",
    "Server=tcp:db,1433;Uid=me;Pwd=q8Zt3kPw;",
    "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=" + "q8Zt3kPw91x/" * 7 + "q8==",
    "export WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567",
    "https://example.org/v1?user=me&api_key=q8Zt3kPw91xx",
    '{"user": "me", "password": "hunter2"}',
    "curl -H 'Authorization: Bearer " + "hf_" + "aBcD" * 8 + "' https://example.org",
]


@pytest.mark.parametrize("value", LOOKS)
def test_values_that_look_like_credentials(nb, value):
    nb.namespace["harmless_name"] = value
    message = nb.refusal("x = 1\nprint(harmless_name)")
    assert message.startswith("harmless_name (line 3) looks like a credential")
    assert "--in harmless_name" in message
    assert "--env HARMLESS_NAME and os.environ['HARMLESS_NAME']" in message
    assert value not in message
    captured = nb.capture("print(harmless_name)", include=["harmless_name"])
    assert "harmless_name" in captured.inputs
    shown = captured.script + "".join(item.detail for item in captured.items)
    assert value.splitlines()[0] not in shown, "scripts and plans are read by others"


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "API_KEY",
        "apiKey",
        "wandb_api_key",
        "db_password",
        "aws_secret_access_key",
        "authToken",
        "my_secret",
    ],
)
def test_names_of_credentials(nb, name):
    nb.namespace[name] = "q8Zt3kPw91xx"
    assert f"{name} (line 2) looks like a credential" in nb.refusal(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tokenizer", "bert-base-uncased-12345"), ("tokens", 512), ("max_token", 4096), ("auth", False),
        ("pad_token", "<pad>"),
        ("token", "hello"), ("token", ""), ("api_key", ""), ("eos_token", "[EOS]"), ("secret", None),
        ("token_ids", "1234 5678"),
        ("password_field", "user_password_1"), ("api_key", "OPENAI_API_KEY"), ("primary_key", "user_id_12345"),
        ("key", "q8Zt3kPw91xx"), ("password", "${PASSWORD}"), ("text", "a sentence with http://x:y in it"),
        ("wandb_key", "resnet-50-run-12"), ("cache_key", "0123456789abcdef" * 2), ("key", "0123456789abcdef" * 2),
        ("dsn", "postgres://user:password@localhost/x"), ("dsn", "postgres://me:{password}@db/x"),
        ("dsn", "host=db password=%(password)s"), ("text", "the password: hunter2, said no one"),
        ("text", "pad_token=<pad> eos_token=</s> token=tokenizer_v2"), ("help", "password=required, token=optional1"),
        ("name", "model_ResNet50WithFeaturePyramidNetwork2"), ("path", "/data/task-oriented-dialogue-system-2023/x"),
        ("file", "checkpoint_3dd342df0123456789abcdef0123456789abcdef.pth"),
        ("name", "Wav2Vec2ForSequenceClassification"), ("text", "of Basic self-supervised-learning2"),
        ("digest", "sha256-0123456789abcdef0123456789abcdef"), ("run", "run-20231231_235959-3kPw91xx"),
        ("url", "https://drive.google.com/uc?id=1q8Zt3kPw91xxLm4VzR7sq8Zt3kPw91xx"),
        ("url", "https://example.org:8080/a@b"), ("name", "sk-learn"), ("tokenization", "word123piece"),
    ],
)  # fmt: skip
def test_values_that_are_not_credentials_despite_their_names(nb, name, value):
    nb.namespace[name] = value
    assert nb.train(f"result = {name}")["result"] == value


@pytest.mark.parametrize(
    ("setup", "path"),
    [
        ("cfg = {'lr': 1, 'api_key': 'q8Zt3kPw91xx'}", "cfg['api_key']"),
        ("cfg = {'a': [{'password': 'hunter2'}]}", "cfg['a'][0]['password']"),
        (f"cfg = [1, '{TOKEN}']", "cfg[1]"),
        ("class Client: pass\ncfg = Client()\ncfg.token = 'q8Zt3kPw91xx'", "cfg.token"),
        ("import torch\ncfg = torch.nn.Linear(1, 1)\ncfg.api_key = 'q8Zt3kPw91xx'", "cfg.api_key"),
        (f"import torch\ncfg = (torch.ones(5000), {{'x': '{TOKEN}'}})", "cfg[1]['x']"),
    ],
)
def test_credentials_inside_of_containers_and_objects(nb, setup, path):
    nb.cell(setup)
    message = nb.refusal("cfg")
    assert message.startswith(f"{path} (line 2) looks like a credential")
    assert "q8Zt3kPw91xx" not in message
    assert nb.capture("cfg", include=["cfg"])


def test_credentials_written_into_the_cell_or_a_definition(nb):
    message = nb.refusal(f"x = 1\nlogin('{TOKEN}')\ndef login(x): pass")
    assert message.startswith("line 3 (a string) looks like a credential")
    assert TOKEN not in message
    assert "line 2 (password)" in nb.refusal("connect(password='hunter2')\ndef connect(**k): pass")
    nb.cell("x = 1\ndef fetch(api_key='q8Zt3kPw91xx'):\n    return 1")
    assert "line 2 of cell [1] (api_key), which fetch needs" in nb.refusal("fetch()")


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("wandb.login(key='0123456789abcdef0123456789abcdef01234567')", "key"),
        ("login('0123456789abcdef0123456789abcdef01234567')", "login"),
        ("client.authenticate(user='me', with_='q8Zt3kPw91xxLm4VzR7s')", "with_"),
        ("hub.sign_in('01234567-89ab-cdef-0123-456789abcdef')", "sign_in"),
    ],
)
def test_what_a_function_logs_in_with_is_a_credential(nb, call, name):
    message = nb.refusal(f"wandb = login = client = hub = print\n{call}")
    assert message.startswith(f"line 3 ({name}) looks like a credential")
    assert "01234567" not in message


@pytest.mark.parametrize(
    "call", ["login('my-team', host='api.example.org:8080')", "login(key=KEY)", "login('me@example.org')"]
)
def test_a_login_without_a_credential_is_none(nb, call):
    assert nb.capture(f"KEY = 1\ndef login(*a, **k): pass\n{call}")


def test_credentials_in_a_default_or_a_closure(nb):
    nb.cell("def make(key):\n    def f(): return key\n    return f")
    nb.namespace["__key"] = TOKEN
    nb.cell("f = make(globals()['__key'])")
    assert "credential" in nb.refusal("f()")


def test_credentials_in_a_local_module(nb, monkeypatch):
    monkeypatch.syspath_prepend(str(nb.folder))
    (nb.folder / "settings_x.py").write_text(f"A = 1\nGITHUB = '{TOKEN}'\n")
    message = nb.refusal("import settings_x")
    assert "line 2 of" in message
    assert "--in settings_x" in message
    assert nb.capture("import settings_x", include=["settings_x.py"]).files


def test_training_texts_are_not_credentials(nb):
    nb.cell("texts = ['the password is not here', 'mail me at a@b.c or http://x.y/z?u=1@2'] * 300")
    assert nb.train("result = len(texts)")["result"] == 600


alphanumeric = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=20, max_size=60)


@given(alphanumeric, st.sampled_from(["ghp_", "hf_", "sk-", "github_pat_"]))
def test_tokens_are_recognised_under_any_name(text, start):
    assert looks_secret(start + text)
    assert looks_secret((start + text).encode())


@given(st.one_of(st.integers(), st.booleans(), st.none(), st.floats(), st.lists(st.integers())))
def test_only_strings_and_bytes_are_credentials(value):
    for name in ("token", "password", "api_key", "secret"):
        assert not named_secret(name, value)
        assert not looks_secret(value)


@given(st.text("abcdefghijklmnopqrstuvwxyz .,", max_size=200))
def test_prose_is_never_a_credential(text):
    assert not looks_secret(text)
    assert not named_secret("token", text)


@given(alphanumeric.filter(lambda t: any(c.isdigit() for c in t)), st.sampled_from(["", "my_", "GITLAB_", "the"]))
def test_a_string_with_digits_and_a_name_of_a_credential_always_is_one(text, prefix):
    for name in ("token", "api_key", "password", "secret", "private_key"):
        full = prefix + name if prefix.endswith("_") or not prefix else prefix + name.title().replace("_", "")
        assert named_secret(full, text), full
