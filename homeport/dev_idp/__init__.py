"""An OpenID provider for development: `homeport up` brings it, so that signing in is the same door from the first day.

It asks for no password: whoever can open its page may be anybody. So it is reachable from this machine alone, and is
refused where the API is not: see `errors.DevProviderRefusedError`.

provider.py   what it decides, without I/O: requests, codes, tokens
people.py     who may be chosen, in a file
pages.py      what the browser shows
service.py    HTTP around it
place.py      where it may run
app.py        the process
"""
