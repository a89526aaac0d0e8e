"""What a provider has granted to a person in a team: kept, refreshed, handed out, taken back.

records.py       a grant, and the sealed record that it is kept in
store.py         AuthTokenStore and OfflineTokenStore: the grants of one person at one provider
attempts.py      what is written down before a refresh token is sent, and as soon as an answer is there
refresher.py     one refresh at a time, whoever asks and in whichever process
tokens.py        TokenManager: all of it in order
"""
