//! Everything that more than one function of Tuberry needs, floor by floor.
