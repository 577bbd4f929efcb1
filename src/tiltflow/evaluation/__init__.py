"""What a fitted model is worth: held-out likelihood, and the evidence a report shows."""
