"""Sign-in against a certified OpenID provider: npm's oidc-provider, over real HTTP.

`requirements/node.sh` installs it into `node_modules` here, by the lock file.
"""
