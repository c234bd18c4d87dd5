"""What a server tells of itself: figures, traces, and what was answered to whom."""
