"""How each provider is spoken to.

answers.py     what a token endpoint says, in JSON or as a form. No I/O
kinds.py       endpoints, scopes and ways to revoke, of GitHub, GitLab, Bitbucket and OpenID providers. No I/O
sending.py     requests and answers, and who sends them
client.py      one provider: begin, redeem, refresh, revoke
catalogue.py   those that are set up
"""
