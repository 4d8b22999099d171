"""The words that all rooms share: API facts, outcomes, mapping, destination and views."""
