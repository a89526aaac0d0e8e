"""Settings: where they come from, and everything that is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from common.secret import Secret
from common.settings import Bytes, Port, Seconds, Settings, SettingsError, explain, fields_of, load

CANARY = "c4nary-secret-value"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a table of tables."""

    url: Annotated[str, Meta(description="Where it is.")]
    key: Annotated[Secret | None, Meta(description="What opens it.")] = None
    wait: Annotated[Seconds, Meta(description="A time.")] = 5.0

    def __post_init__(self) -> None:
        if " " in self.url:
            raise ValueError("url must not hold a blank")


class Demo(Settings, frozen=True, kw_only=True):
    """One field of each kind."""

    section: ClassVar[str] = "demo"

    name: Annotated[str, Meta(description="A name.")]
    port: Annotated[Port, Meta(description="A port.")] = 80
    ratio: Annotated[float, Meta(ge=0, le=1, description="A ratio.")] = 0.5
    flag: Annotated[bool, Meta(description="A flag.")] = False
    size: Annotated[Bytes, Meta(description="A size.")] = 1024
    grace: Annotated[Seconds, Meta(description="A time.")] = 30.0
    limit: Annotated[Seconds | None, Meta(description="A time, or none.")] = None
    mode: Annotated[Literal["fast", "safe"], Meta(description="A mode.")] = "safe"
    folder: Annotated[Path | None, Meta(description="A folder.")] = None
    password: Annotated[Secret | None, Meta(description="A password.")] = None
    hosts: Annotated[tuple[str, ...], Meta(description="Hosts.")] = ()
    services: Annotated[dict[str, str], Meta(description="Services.")] = {}  # noqa: RUF012  # msgspec copies it
    places: Annotated[dict[str, Place], Meta(description="Places.")] = {}  # noqa: RUF012

    def __post_init__(self) -> None:
        if self.mode == "fast" and self.flag:
            raise ValueError("mode fast and flag exclude each other")


class Other(Settings, frozen=True, kw_only=True):
    """Another process."""

    section: ClassVar[str] = "other"

    port: Annotated[Port, Meta(description="The same key.")] = 81
    colour: Annotated[str, Meta(description="A key of its own.")] = "red"
    token: Annotated[Secret | None, Meta(description="A secret of its own.")] = None


def read(
    toml: str | None = None,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
    **flags: object,
) -> Demo:
    path = None
    if toml is not None:
        assert folder is not None
        path = folder / "homeport.toml"
        path.write_text(toml)
        path.chmod(0o600)
    return load(Demo, config=path, environ=environ or {}, overrides={"name": "n", **flags}, known=[Other])


def problems(*arguments: Any, **flags: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(*arguments, **flags)
    shown = [str(problem) for problem in caught.value.problems]
    assert CANARY not in str(caught.value) + repr(caught.value) + str(caught.value.problem())
    assert CANARY not in _chain(caught.value)
    return shown


def _chain(error: BaseException | None) -> str:
    """All that a traceback would print of the errors behind one."""
    text = ""
    while error is not None:
        text += repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text


# Precedence


def test_defaults_then_file_then_environment_then_flags(tmp_path: Path) -> None:
    assert read().port == 80
    toml = "port = 1"
    assert read(toml, folder=tmp_path).port == 1
    assert read(toml, {"HOMEPORT_PORT": "2"}, tmp_path).port == 2
    assert read(toml, {"HOMEPORT_PORT": "2"}, tmp_path, port=3).port == 3
    assert read(toml, {"HOMEPORT_PORT": "2"}, tmp_path, port=None).port == 2, "a flag that was not given"


def test_the_own_table_overrides_the_top_and_other_tables_do_not_matter(tmp_path: Path) -> None:
    settings = read("port = 1\nflag = true\n[demo]\nport = 2\n[other]\nport = 3\ncolour = 'blue'\n", folder=tmp_path)
    assert (settings.port, settings.flag) == (2, True)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert read(environ={"HOMEPORT_PORT": "", "HOMEPORT_PASSWORD": ""}).port == 80


def test_the_file_can_be_named_by_a_variable(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("port = 7")
    assert read(environ={"HOMEPORT_CONFIG": str(tmp_path / "x.toml")}).port == 7


def test_other_variables_are_not_looked_at() -> None:
    assert read(environ={"PORT": "x", "homeport_port": "5", "PATH": "/bin", "HOMEPORTX": "1"}).port == 80


# Tables of tables


def test_a_table_of_tables_comes_from_the_file_and_the_environment_value_by_value(tmp_path: Path) -> None:
    toml = "[places.at-home]\nurl = 'a'\nwait = 1\n[demo.places.away]\nurl = 'b'\n"
    environ = {
        "HOMEPORT_PLACES__AT_HOME__WAIT": "2m",
        "HOMEPORT_PLACES__AT_HOME__KEY": CANARY,
        "HOMEPORT_PLACES__THERE__URL": "c",
    }
    assert read(toml, environ, tmp_path).places == {
        "at-home": Place(url="a", wait=120.0, key=Secret(CANARY)),
        "away": Place(url="b"),
        "there": Place(url="c"),
    }


def test_the_secret_of_an_entry_can_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY)
    (tmp_path / "key").chmod(0o600)
    toml = f"[places.a]\nurl = 'a'\nkey_file = '{tmp_path / 'key'}'\n"
    assert read(toml, folder=tmp_path).places["a"].key == Secret(CANARY)
    variable = {"HOMEPORT_PLACES__B__KEY_FILE": str(tmp_path / "key"), "HOMEPORT_PLACES__B__URL": "b"}
    assert read(environ=variable).places["b"].key == Secret(CANARY)
    shown = explain(Demo, config=None, environ=variable, overrides={"name": "n"})
    assert [(each.value, each.source) for each in shown if each.field.name == "places"] == [("b", "environment")]


@pytest.mark.parametrize(
    ("toml", "environ", "problem"),
    [
        ("places = 3", {}, "places (in PATH): expected a table of tables"),
        ("places = { a = 3 }", {}, "places (in PATH): expected a table of tables"),
        ("[places.a]\nurl = 'a'\nurk = 'b'\n", {}, "urk (in places.a (in PATH)): no such setting"),
        ("[places.a]\nwait = 5\n", {}, "places.a.url: is required: a text"),
        ("[places.a]\nurl = 'a'\nwait = 'long'\n", {}, "places.a.wait (in PATH): expected a time"),
        ("[places.a]\nurl = 'a b'\n", {}, "places.a: url must not hold a blank"),
        ("", {"HOMEPORT_PLACES": "a"}, "HOMEPORT_PLACES (environment): no such setting"),
        ("", {"HOMEPORT_PLACES__A__URK": "a"}, "HOMEPORT_PLACES__A__URK (environment): no such setting"),
        ("", {"HOMEPORT_PLACES__URL": "a"}, "HOMEPORT_PLACES__URL (environment): no such setting"),
    ],
)
def test_what_is_wrong_in_a_table_of_tables_is_named(
    tmp_path: Path, toml: str, environ: dict[str, str], problem: str
) -> None:
    assert problem.replace("PATH", str(tmp_path / "homeport.toml")) in problems(toml, environ, tmp_path)


def test_a_file_with_the_secret_of_an_entry_must_be_private(tmp_path: Path) -> None:
    path = tmp_path / "open.toml"
    path.write_text(f"[places.a]\nurl = 'a'\nkey = '{CANARY}'\n")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="holds a secret"):
        load(Demo, config=path, environ={}, overrides={"name": "n"})


# Values


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("PORT", "0", "port", 0),
        ("RATIO", "0.25", "ratio", 0.25),
        ("RATIO", "1", "ratio", 1.0),
        ("FLAG", "true", "flag", True),
        ("FLAG", "Yes", "flag", True),
        ("FLAG", "0", "flag", False),
        ("FLAG", "off", "flag", False),
        ("SIZE", "65536", "size", 65536),
        ("SIZE", "64KiB", "size", 65536),
        ("SIZE", "1.5 MiB", "size", 1572864),
        ("SIZE", "1gib", "size", 2**30),
        ("GRACE", "5", "grace", 5.0),
        ("GRACE", "250ms", "grace", 0.25),
        ("GRACE", "2h", "grace", 7200.0),
        ("LIMIT", "1d", "limit", 86400.0),
        ("MODE", "fast", "mode", "fast"),
        ("FOLDER", "/var/lib", "folder", Path("/var/lib")),
        ("HOSTS", "a, b,,c", "hosts", ("a", "b", "c")),
        ("SERVICES", "web=http://127.0.0.1:80, ssh=tcp://h:22", "services", {"web": "http://127.0.0.1:80", "ssh": "tcp://h:22"}),
        ("PASSWORD", CANARY, "password", Secret(CANARY)),
    ],
)  # fmt: skip
def test_text_is_read_as_the_field_says(variable: str, text: str, field: str, value: object) -> None:
    found = getattr(read(environ={f"HOMEPORT_{variable}": text}), field)
    assert (found, type(found)) == (value, type(value))


def test_toml_is_read_as_it_is(tmp_path: Path) -> None:
    settings = read(
        """
        port = 8080
        ratio = 1
        flag = true
        size = "2KiB"
        grace = 1.5
        hosts = ["a"]
        [demo.services]
        web = "http://127.0.0.1"
        """,
        folder=tmp_path,
    )
    assert (settings.port, settings.ratio, settings.flag, settings.size) == (8080, 1.0, True, 2048)
    assert (settings.grace, settings.hosts, settings.services) == (1.5, ("a",), {"web": "http://127.0.0.1"})


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("PORT", "an integer from 0 to 65535"),
        ("RATIO", "a number from 0 to 1"),
        ("FLAG", "true or false"),
        ("SIZE", "a size"),
        ("GRACE", "a time"),
        ("LIMIT", "a time"),
        ("MODE", "one of fast, safe"),
        ("SERVICES", "a table"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_source_and_never_quoted(variable: str, expected: str) -> None:
    assert problems(environ={f"HOMEPORT_{variable}": CANARY}) == [
        f"HOMEPORT_{variable} (environment): expected {expected}"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "-1",
        "65536",
        "1e3",
        "0x50",
        "1_000",
        "99999999999999999999999999",
        "1.0",
        "٣",
        " ",
        "nan",
        "true",
        "8" * 100_000,
    ],
)
def test_numbers_that_are_no_port(text: str) -> None:
    assert problems(environ={"HOMEPORT_PORT": text}) == [
        "HOMEPORT_PORT (environment): expected an integer from 0 to 65535"
    ]


@pytest.mark.parametrize("text", ["inf", "nan", "-1", "1e400", "5 parsecs", "1..5", "s", "9" * 30, "11y", "4000d"])
def test_times_that_are_none(text: str) -> None:
    assert problems(environ={"HOMEPORT_GRACE": text}) == ["HOMEPORT_GRACE (environment): expected a time"]


@pytest.mark.parametrize("text", ["1.3", "0.0001KiB", "-1KiB", "1KB", "9999999TiB"])
def test_sizes_that_are_none(text: str) -> None:
    assert problems(environ={"HOMEPORT_SIZE": text}) == ["HOMEPORT_SIZE (environment): expected a size"]


@pytest.mark.parametrize(
    "toml",
    ['port = "x"', "port = 1.5", "port = [1]", "port = true", "port = 1979-05-27", "hosts = 5", "hosts = [1]",
     "name = 5", "folder = 5", "folder = ''", "services = []", "ratio = inf", "grace = nan"],
)  # fmt: skip
def test_toml_of_another_type_is_refused(tmp_path: Path, toml: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(Demo, config=_write(tmp_path, toml), environ={}, overrides={"name": None if "name" in toml else "n"})
    (problem,) = caught.value.problems
    assert problem.where == f"{toml.split()[0]} (in {tmp_path / 'x.toml'})"
    assert problem.what.startswith("expected ")


def _write(folder: Path, text: str) -> Path:
    (folder / "x.toml").write_text(text)
    return folder / "x.toml"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_no_text_makes_anything_else_than_a_value_or_an_error(text: str) -> None:
    for variable in ("PORT", "RATIO", "FLAG", "SIZE", "GRACE", "MODE", "HOSTS", "SERVICES", "FOLDER"):
        assert _wrong(f"HOMEPORT_{variable}", text) in ([], [f"HOMEPORT_{variable} (environment)"])


def test_the_home_of_a_user_who_is_not_there_is_an_error() -> None:
    assert _wrong("HOMEPORT_FOLDER", "~no-such-user-here/x") == ["HOMEPORT_FOLDER (environment)"]


def _wrong(variable: str, text: str) -> list[str]:
    try:
        read(environ={variable: text})
    except SettingsError as exc:
        return [problem.where for problem in exc.problems]
    return []


# Names


def test_an_unknown_variable_is_an_error() -> None:
    assert problems(environ={"HOMEPORT_PROT": CANARY}) == ["HOMEPORT_PROT (environment): no such setting"]


def test_a_variable_in_the_wrong_case_is_an_error() -> None:
    assert problems(environ={"HOMEPORT_Port": "80"}) == ["HOMEPORT_Port (environment): no such setting"]


def test_a_variable_of_another_process_is_none() -> None:
    assert read(environ={"HOMEPORT_COLOUR": "blue", "HOMEPORT_TOKEN_FILE": "/x"}).port == 80
    with pytest.raises(SettingsError, match="HOMEPORT_COLOUR"):
        load(Demo, config=None, environ={"HOMEPORT_COLOUR": "blue"}, overrides={"name": "n"})


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("prot = 5", "prot (in {path}): no such setting"),
        ("[demo]\ncolour = 'x'", "colour (in [demo] of {path}): no such setting"),
        ("[other]\nratio = 1", "ratio (in [other] of {path}): no such setting"),
        ("[third]\nport = 1", "third (in {path}): no such setting"),
        ("demo = 5", "demo (in {path}): no such setting"),
    ],
)
def test_an_unknown_key_is_an_error(tmp_path: Path, toml: str, problem: str) -> None:
    assert problems(toml, folder=tmp_path) == [problem.format(path=tmp_path / "homeport.toml")]


def test_a_key_of_another_process_may_stand_at_the_top(tmp_path: Path) -> None:
    assert read("colour = 'blue'", folder=tmp_path).port == 80


def test_an_unknown_flag_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(TypeError, match="prot"):
        read(prot=5)


def test_what_is_required_is_asked_for_by_both_its_names() -> None:
    assert problems(name=None) == ["HOMEPORT_NAME, or name in the file: is required: a text"]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    found = problems("x = 1\nratio = 5", {"HOMEPORT_PORT": "x", "HOMEPORT_Y": "1"}, tmp_path, name=None)
    assert len(found) == 5


def test_a_check_across_fields_names_the_process() -> None:
    assert problems(mode="fast", flag=True) == ["the settings of demo: mode fast and flag exclude each other"]


# Files


@pytest.mark.parametrize("content", [b"port = ", b"= 5", b"\xff\xfe", b"a = " + b"[" * 5000, b"#" * 1_100_000])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(Demo, config=path, environ={}, overrides={"name": "n"})
    assert caught.value.problems[0].where == str(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing\.toml: cannot be read: No such file"):
        load(Demo, config=tmp_path / "nothing.toml", environ={}, overrides={"name": "n"})


# Secrets


def secret_file(folder: Path, mode: int = 0o600) -> Path:
    path = folder / "password"
    path.write_text(CANARY + "\n")
    path.chmod(mode)
    return path


def test_a_secret_comes_from_a_file_in_either_place(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    assert read(environ={"HOMEPORT_PASSWORD_FILE": str(path)}).password == Secret(CANARY)
    assert read(f"password_file = '{path}'", folder=tmp_path).password == Secret(CANARY)
    assert read(f"[demo]\npassword_file = '{path}'", folder=tmp_path).password == Secret(CANARY)
    assert read(password_file=path).password == Secret(CANARY)


def test_a_later_source_wins_whichever_way_it_gives_the_secret(tmp_path: Path) -> None:
    path = secret_file(tmp_path)
    assert read("password = 'in-the-toml'", {"HOMEPORT_PASSWORD_FILE": str(path)}, tmp_path).password == Secret(CANARY)
    assert read(f"password_file = '{path}'", {"HOMEPORT_PASSWORD": "x"}, tmp_path).password == Secret("x")


def test_a_secret_and_its_file_in_one_place_are_an_error(tmp_path: Path) -> None:
    environ = {"HOMEPORT_PASSWORD": CANARY, "HOMEPORT_PASSWORD_FILE": str(secret_file(tmp_path))}
    assert problems(environ=environ) == [
        "HOMEPORT_PASSWORD_FILE (environment): HOMEPORT_PASSWORD is given as well; give one of them"
    ]


def test_a_secret_file_that_others_may_read_is_an_error(tmp_path: Path) -> None:
    (problem,) = problems(environ={"HOMEPORT_PASSWORD_FILE": str(secret_file(tmp_path, 0o644))})
    assert problem.startswith("HOMEPORT_PASSWORD_FILE (environment): ")
    assert "chmod 600" in problem


def test_a_secret_in_a_toml_file_that_others_may_read_is_an_error(tmp_path: Path) -> None:
    path = _write(tmp_path, f"[demo]\npassword = '{CANARY}'")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="holds a secret") as caught:
        load(Demo, config=path, environ={}, overrides={"name": "n"})
    assert CANARY not in str(caught.value)
    path.chmod(0o600)
    assert load(Demo, config=path, environ={}, overrides={"name": "n"}).password == Secret(CANARY)


def test_a_secret_shows_nowhere(tmp_path: Path) -> None:
    settings = read(environ={"HOMEPORT_PASSWORD": CANARY})
    assert CANARY not in repr(settings)
    explained = explain(Demo, config=None, environ={"HOMEPORT_PASSWORD": CANARY}, overrides={"name": "n"})
    assert CANARY not in repr(explained)
    assert {each.field.name: each.value for each in explained}["password"] == "***"


@pytest.mark.parametrize("toml", ["password = 5", f"password = ['{CANARY}']", f"password = {{a = '{CANARY}'}}"])
def test_a_secret_of_another_type_is_refused_and_not_quoted(tmp_path: Path, toml: str) -> None:
    (problem,) = problems(toml, folder=tmp_path)
    assert problem.endswith("expected a secret")


# Families


class Kin(Settings, frozen=True, kw_only=True):
    """With names that other systems have made known."""

    section: ClassVar[str] = "kin"
    families: ClassVar[tuple[str, ...]] = ("gitstore_",)

    gitstore_url: Annotated[str, Meta(description="A URL.")] = ""
    gitstore_token: Annotated[Secret | None, Meta(description="A token.")] = None
    port: Annotated[int, Meta(description="A port.")] = 1


def test_a_family_has_variables_without_the_prefix(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.touch(mode=0o600)
    secret.write_text(CANARY)
    environ = {"GITSTORE_URL": "u", "GITSTORE_TOKEN_FILE": str(secret), "HOMEPORT_PORT": "2", "GITHUB_URL": "other"}
    read = load(Kin, config=None, environ=environ, overrides={})
    assert (read.gitstore_url, read.gitstore_token, read.port) == ("u", Secret(CANARY), 2)
    assert {field.name: field.variable for field in fields_of(Kin)} == {
        "gitstore_url": "GITSTORE_URL",
        "gitstore_token": "GITSTORE_TOKEN",
        "port": "HOMEPORT_PORT",
    }
    path = _write(tmp_path, "gitstore_url = 'file'\n[kin]\nport = 3")
    assert load(Kin, config=path, environ={}, overrides={}).gitstore_url == "file"


@pytest.mark.parametrize("variable", ["GITSTORE_URLL", "HOMEPORT_GITSTORE_URL", "gitstore_url", "GITSTORE_PORT"])
def test_another_name_of_a_family_is_an_error(variable: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable} .*no such setting"):
        load(Kin, config=None, environ={variable: CANARY}, overrides={})
    assert load(Demo, config=None, environ={"GITSTORE_URLL": "x"}, overrides={"name": "n"}).name == "n"


# Reference


def test_explain_says_where_each_value_came_from(tmp_path: Path) -> None:
    path = _write(tmp_path, "ratio = 0.1\n[demo]\nsize = '1MiB'")
    explained = explain(Demo, config=path, environ={"HOMEPORT_GRACE": "90"}, overrides={"name": "n", "mode": "fast"})
    found = {each.field.name: (each.value, each.source) for each in explained}
    assert found["ratio"] == ("0.1", "file")
    assert found["size"] == ("1MiB", "file")
    assert found["grace"] == ("90s", "environment")
    assert found["mode"] == ("fast", "flag")
    assert found["port"] == ("80", "default")
    assert found["folder"] == ("", "default")


def test_fields_describe_themselves() -> None:
    fields = {field.name: field for field in fields_of(Demo)}
    assert list(fields)[:2] == ["name", "port"]
    assert (fields["name"].default, fields["port"].default) == (None, "80")
    assert fields["port"].variable == "HOMEPORT_PORT"
    assert fields["password"].secret
    assert not fields["folder"].secret
    assert fields["limit"].unit == "seconds"
    assert fields["size"].default == "1KiB"
    assert fields["services"].description == "Services."


def test_a_setting_without_a_description_is_a_mistake() -> None:
    class Silent(Settings, frozen=True, kw_only=True):
        port: int = 5

    with pytest.raises(TypeError, match="'port' has no description"):
        fields_of(Silent)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        read().port = 5  # type: ignore[misc]
