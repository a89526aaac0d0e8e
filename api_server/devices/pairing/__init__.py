"""Ways in for a device that has nothing yet but a key that it made itself.

    a pairing token   made beforehand by somebody of the team, and given to the device
    the device flow   the device shows a code, and somebody of the team approves it (RFC 8628)

Both end alike: the device is registered with its public key, and gets its first session token.
"""
