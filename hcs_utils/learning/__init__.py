"""What a network sees, what it is asked, and one loop that asks it."""
