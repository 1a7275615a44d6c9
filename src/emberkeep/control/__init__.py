"""The use cases of images, and the work behind them: builds, deletions, what nobody needs."""
