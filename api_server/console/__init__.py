"""The few pages that people need: to approve a device, and to accept an invitation.

A page is the same for everybody. Who one is, what one may do and what there is to decide, its script asks of the REST
API, with the session cookie and the header against forged requests. So a page needs no identity, and can leak nothing.
"""
