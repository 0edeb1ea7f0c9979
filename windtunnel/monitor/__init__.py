"""Monitors: what is measured of a study while it trains, what that says, and what is done about it."""
