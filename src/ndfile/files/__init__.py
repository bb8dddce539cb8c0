"""Files as bytes with a name: opening, space, locks, replacing and publishing. Nothing here knows a dtype."""
