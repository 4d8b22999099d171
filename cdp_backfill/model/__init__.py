"""Holds what all rooms share: facts about the API, outcomes, the mapping and the destination."""
