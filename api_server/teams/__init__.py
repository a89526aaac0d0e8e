"""Teams, their members and roles, invitations, and the users of the installation."""
