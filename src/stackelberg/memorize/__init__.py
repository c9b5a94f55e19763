"""What is the most robust network there can be for this data?"""
