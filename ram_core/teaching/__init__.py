"""Tags that people teach on a few pictures: heads on what was kept of images, with calibrated thresholds.

inputs         what heads take, from packed features
heads          heads, and the scores that they give
fitting        fit a tag: the candidates, cross-validated;  logistic  the regression
measures       precision and recall on held-out pictures, with intervals, and what they tell a person
recognizer     a model with heads
suggesting     which pictures to label next
"""
