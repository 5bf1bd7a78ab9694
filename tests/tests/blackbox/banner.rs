//! The banner of `holdfast dev`, pasted line by line.
