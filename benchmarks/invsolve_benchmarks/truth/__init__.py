"""The leaderboard of truth: problems whose posterior is known, and how far a solver's draws are from it."""
