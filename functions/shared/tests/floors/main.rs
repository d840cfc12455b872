//! The rules of the code: floors and rooms, circles of files, owners of tables, lengths, stored functions and words.
//! Each rule lists all files that break it, and has tests of its reader on small texts.

mod circles;
mod lengths;
mod paths;
mod rooms;
mod rust;
mod sql;
mod stored_functions;
mod tables;
mod tree;
mod words;
