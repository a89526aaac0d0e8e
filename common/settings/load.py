"""Gathers the candidates for each setting, checks every name, and builds the struct."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from common.crypto.errors import KeyFileError
from common.crypto.keyfiles import check_private, read_secret
from common.settings.errors import Problem, SettingsError
from common.settings.fields import Field, Settings, fields_of, read_value, show_value

__all__ = ["Explained", "explain", "load"]

S = TypeVar("S", bound=Settings)

_PREFIX = "HOMEPORT_"
_CONFIG_VARIABLE = "HOMEPORT_CONFIG"
"""Names the TOML file when no flag does."""

_MAX_CONFIG_SIZE = 1024 * 1024
"""Bytes of the TOML file."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    value: object
    where: str
    """As in `Problem.where`."""
    source: str
    """`default`, `file`, `environment` or `flag`."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A setting, its value in effect (a secret as `***`) and where that came from."""

    field: Field
    value: str
    source: str


def load(
    settings: type[S],
    *,
    config: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    known: Iterable[type[Settings]] = (),
) -> S:
    """The settings of a process.

    Args:
        settings: what the process declares.
        config: the TOML file; None for the one that `HOMEPORT_CONFIG` names, if it does.
        environ: the environment, usually `os.environ`.
        overrides: values of flags, by field name; None means that the flag was not given.
        known: the settings of the other processes, whose names may stand in the same environment and file.

    Raises:
        SettingsError: with everything that is wrong, not only the first.
    """
    return _Loader(settings, known).load(config, environ, overrides)[0]


def explain(
    settings: type[S],
    *,
    config: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    known: Iterable[type[Settings]] = (),
) -> list[Explained]:
    """As `load`, but says of each setting what it is and where it came from.

    Raises:
        SettingsError: as `load`.
    """
    loader = _Loader(settings, known)
    loaded, sources = loader.load(config, environ, overrides)
    return [
        Explained(
            field=field,
            value=show_value(getattr(loaded, field.name), field.unit),
            source=sources.get(field.name, "default"),
        )
        for field in loader.fields.values()
    ]


class _Loader(Generic[S]):
    def __init__(self, settings: type[S], known: Iterable[type[Settings]]) -> None:
        self._settings = settings
        self.fields = {field.name: field for field in fields_of(settings)}
        self._sections: dict[str, set[str]] = {}
        self._tables: dict[str, set[str]] = {}
        """What an entry of each table of tables may hold."""
        declared: set[type[Settings]] = {settings, *known}
        for each in declared:
            names = self._sections.setdefault(each.section, set())
            for field in fields_of(each):
                names |= _names_of([field])
                if field.entries:
                    self._tables[field.name] = _names_of(field.entries)
        self._all_names = set().union(*self._sections.values())
        self._families = tuple({family for each in declared for family in each.families})
        self._problems: list[Problem] = []

    def load(
        self, config: Path | None, environ: Mapping[str, str], overrides: Mapping[str, object]
    ) -> tuple[S, dict[str, str]]:
        if config is None and environ.get(_CONFIG_VARIABLE):
            config = Path(environ[_CONFIG_VARIABLE])
        candidates: dict[str, _Candidate] = {}
        if config is not None:
            candidates |= self._from_file(config)
        candidates |= self._from_environment(environ)
        candidates |= self._from_flags(overrides)
        values = self._read(candidates)
        for name, field in self.fields.items():
            if field.default is None and name not in candidates:
                where = f"{field.variable}, or {name} in the file"
                self._problems.append(Problem(where, f"is required: {field.type}", missing=True))
        for name, field in self.fields.items():
            if field.entries and (entries := _nested(name, values)):
                self._check_entries(field, entries)
        if self._problems:
            raise SettingsError(self._problems)
        values = self._assembled(values)
        try:
            loaded = self._settings(**values)
        except ValueError as exc:
            raise SettingsError([Problem(f"the settings of {self._settings.section}", str(exc))]) from exc
        return loaded, {name.partition(".")[0]: candidate.source for name, candidate in candidates.items()}

    def _check_entries(self, field: Field, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Say what the entries of a table of tables lack."""
        for entry, given in entries.items():
            for each in field.entries:
                if each.default is None and each.name not in given:
                    where = f"{field.name}.{entry}.{each.name}"
                    self._problems.append(Problem(where, f"is required: {each.type}"))

    def _assembled(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values` with each table of tables made of its entries, which `a.b.c` names one by one."""
        assembled = {name: value for name, value in values.items() if "." not in name}
        for name, field in self.fields.items():
            if not field.entries or not (entries := _nested(name, values)):
                continue
            kind = field.shape.value_type.cls  # type: ignore[attr-defined]  # a field with entries is a DictType
            made = {}
            for entry, given in entries.items():
                try:
                    made[entry] = kind(**given)
                except ValueError as exc:
                    raise SettingsError([Problem(f"{name}.{entry}", str(exc))]) from exc
            assembled[name] = made
        return assembled

    def _from_file(self, path: Path) -> dict[str, _Candidate]:
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_CONFIG_SIZE + 1)
            if len(content) > _MAX_CONFIG_SIZE:
                raise ValueError
            document = tomllib.loads(content.decode("utf-8"))
        except OSError as exc:
            raise SettingsError([Problem(str(path), f"cannot be read: {exc.strerror}")]) from exc
        except tomllib.TOMLDecodeError as exc:
            # Its text gives line and column, and at most one character of the file.
            raise SettingsError([Problem(str(path), f"is not TOML: {exc}")]) from None
        except (ValueError, RecursionError):
            raise SettingsError([Problem(str(path), "is not a TOML text of at most 1 MiB")]) from None

        common: dict[str, object] = {}
        own: dict[str, object] = {}
        for key, value in document.items():
            if key in self._sections and isinstance(value, dict):
                self._check_names(value, self._sections[key], f"in [{key}] of {path}")
                if key == self._settings.section:
                    own = value
            else:
                self._check_names({key: value}, self._all_names, f"in {path}")
                common[key] = value
        if any(_holds_secret(field, given) for field in self.fields.values() for given in (common, own)):
            try:
                check_private(path)
            except KeyFileError as exc:
                self._problems.append(Problem(str(path), f"holds a secret, but {exc.detail}"))
        return self._candidates(common, "file", f" (in {path})") | self._candidates(
            own, "file", f" (in [{self._settings.section}] of {path})"
        )

    def _check_names(self, table: Iterable[str], known: set[str], where: str) -> None:
        self._problems += [Problem(f"{key} ({where})", "no such setting") for key in table if key not in known]

    def _from_environment(self, environ: Mapping[str, str]) -> dict[str, _Candidate]:
        given: dict[str, object] = {}
        for variable, text in sorted(environ.items()):
            name: str | None
            if self._is_family(variable.lower()):
                name = self._dotted(variable.lower())
            elif variable.startswith(_PREFIX) and variable != _CONFIG_VARIABLE:
                name = self._dotted(variable.removeprefix(_PREFIX).lower())
                name = None if name is None or self._is_family(name) else name
            else:
                continue
            if name is None or variable != variable.upper():
                self._problems.append(Problem(f"{variable} (environment)", "no such setting"))
            elif text:
                given[name] = text
        return self._candidates(given, "environment", " (environment)", spell=self._variable)

    def _is_family(self, name: str) -> bool:
        return bool(self._families) and name.startswith(self._families)

    def _variable(self, name: str) -> str:
        """The environment variable of a field: `HOMEPORT_X`, `HOMEPORT_TABLE__ENTRY__KEY`, or `X` of a family."""
        prefix = "" if self._is_family(name) else _PREFIX
        return prefix + name.replace(".", "__").replace("-", "_").upper()

    def _dotted(self, name: str) -> str | None:
        """What a variable names: `x`, or `table.entry.key` for `table__entry__key`; None when nothing is named so.

        A variable has no hyphen: a single underscore in the name of an entry stands for one.
        """
        if "__" not in name:
            return name if name in self._all_names and name not in self._tables else None
        table, _, rest = name.partition("__")
        entry, _, key = rest.partition("__")
        if key not in self._tables.get(table, ()) or not entry:
            return None
        return f"{table}.{entry.replace('_', '-')}.{key}"

    def _from_flags(self, overrides: Mapping[str, object]) -> dict[str, _Candidate]:
        given = {name: value for name, value in overrides.items() if value is not None}
        unknown = given.keys() - self.fields.keys() - {f"{f.name}_file" for f in self.fields.values() if f.secret}
        if unknown:
            raise TypeError(f"no such settings: {', '.join(sorted(unknown))}")
        return self._candidates(given, "flag", " (flag)", spell=lambda name: "--" + name.replace("_", "-"))

    def _candidates(
        self, given: Mapping[str, object], source: str, suffix: str, spell: Any = str
    ) -> dict[str, _Candidate]:
        """What one source gives for the fields of this process; a secret's file is read here."""
        found: dict[str, _Candidate] = {}
        given = self._flat(given, suffix)
        for name, field in self._named(given).items():
            where = spell(name) + suffix
            if name in given:
                found[name] = _Candidate(given[name], where, source)
            file_name = f"{name}_file"
            if not field.secret or file_name not in given:
                continue
            where_file = spell(file_name) + suffix
            if name in given:
                self._problems.append(Problem(where_file, f"{spell(name)} is given as well; give one of them"))
                continue
            try:
                found[name] = _Candidate(read_secret(Path(str(given[file_name]))).reveal(), where_file, source)
            except KeyFileError as exc:
                self._problems.append(Problem(where_file, exc.detail))
        return found

    def _flat(self, given: Mapping[str, object], suffix: str) -> dict[str, object]:
        """`given` with the values of each table of tables under `table.entry.key`."""
        flat = dict(given)
        for table in self.fields.keys() & self._tables.keys() & given.keys():
            content = flat.pop(table)
            if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
                self._problems.append(Problem(f"{table}{suffix}", "expected a table of tables"))
                continue
            for entry, values in content.items():
                self._check_names(values, self._tables[table], f"in {table}.{entry}{suffix}")
                flat |= {f"{table}.{entry}.{key}": value for key, value in values.items()}
        return flat

    def _named(self, given: Iterable[str]) -> dict[str, Field]:
        """The fields of this process, with those of the entries that `given` names."""
        fields = {name: field for name, field in self.fields.items() if not field.entries}
        for name in given:
            table, _, rest = name.partition(".")
            if rest and table in self.fields:
                entry = rest.rpartition(".")[0]
                fields |= {f"{table}.{entry}.{each.name}": each for each in self.fields[table].entries}
        return fields

    def _read(self, candidates: Mapping[str, _Candidate]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        fields = self._named(candidates)
        for name, candidate in candidates.items():
            try:
                values[name] = read_value(fields[name], candidate.value)
            except ValueError as exc:
                self._problems.append(Problem(candidate.where, str(exc)))
        return values


def _names_of(fields: Iterable[Field]) -> set[str]:
    fields = tuple(fields)
    return {field.name for field in fields} | {f"{field.name}_file" for field in fields if field.secret}


def _holds_secret(field: Field, given: Mapping[str, object]) -> bool:
    """Whether a secret itself, and not the name of its file, is among what is given."""
    if not field.entries:
        return field.secret and field.name in given
    table = given.get(field.name)
    entries = table.values() if isinstance(table, dict) else ()
    return any(
        each.secret and each.name in entry for entry in entries if isinstance(entry, dict) for each in field.entries
    )


def _nested(table: str, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values under `table.entry.key`, by entry and key."""
    entries: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name.startswith(f"{table}."):
            entry, _, key = name.removeprefix(f"{table}.").rpartition(".")
            entries.setdefault(entry, {})[key] = value
    return entries
