"""Who may send: the authority of a fleet, enrolment tokens, and what the store knows of devices."""
