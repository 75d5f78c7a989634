"""What parameters and updates cost on their way: rounded to integers, packed, and coded."""
