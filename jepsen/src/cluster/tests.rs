//! The checker on histories of a store that is right, and of stores that are not.
