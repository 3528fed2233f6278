"""Networks in the form in which they are timed: folded normalisation, fused activation, weights laid out.

It knows modules and tensors, no method by name; what only one method can do to be fast is that method's own affair.
Answers are those of the network as trained, to rounding; nothing here can be trained.
"""
