"""API tokens: what programs show.

TokenService ─────────── made, listed, rotated, revoked ──> TokenStore ──> database
ProgramAuthenticator ─── who shows this? ──> VerifiedTokens (memory) ──> TokenVerifier ──> TokenStore, Memberships
    └─ LastUse           when each was used, written in batches
ExpiryWarnings           says in time that one will expire
"""
