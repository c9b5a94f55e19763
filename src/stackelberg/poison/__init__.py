"""What if the adversary moves first, in the training data?"""
