"""Settings: one documented, immutable struct a process, filled from four places.

    defaults  <  TOML file  <  environment  <  flags

A process declares a subclass of `Settings`; `load` fills it. A key or variable that no process knows is an error, as is
one given twice: a setting that was misspelt must not silently keep its default.

In the TOML file, top-level keys are field names and hold for every process; a table named after a process (`[relay]`,
`[api]`, `[agent]`) overrides them for it. In the environment the field `api_port` is `HOMEPORT_API_PORT`; an empty
variable counts as not set. A field of a family (`Settings.families`) has no `HOMEPORT_` there. A `Secret` field `x` can
be given as `x_file` in either place: the secret is in that file.

    unit       in text                                in TOML also
    bytes      "64KiB", "8 MiB", "1GiB", "65536"      65536
    seconds    "250ms", "30s", "5m", "1h", "1.5"      30, 1.5
    list       comma-separated                        ["a", "b"]
    table      "a=1,b=2"                              { a = "1", b = "2" }

A table of tables (`dict[str, S]` with a struct `S` whose fields are declared as settings are) is `[x.entry]` in TOML;
in the environment each value has a variable of its own, `HOMEPORT_X__ENTRY__KEY`, with an underscore for a hyphen in
the entry's name. The sources are merged value by value.

No error of this package shows a value, only the key, where it was given, and what is expected there: what was pasted
into the wrong setting may be a secret.
"""

from __future__ import annotations

from common.settings.errors import Problem, SettingsError
from common.settings.fields import Bytes, Field, Port, Seconds, Settings, fields_of
from common.settings.load import Explained, explain, load

__all__ = [
    "Bytes",
    "Explained",
    "Field",
    "Port",
    "Problem",
    "Seconds",
    "Settings",
    "SettingsError",
    "explain",
    "fields_of",
    "load",
]
