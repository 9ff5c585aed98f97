//! Rules for the source code and the documents.

mod architecture;
mod documentation;
mod imports;
mod lexer;
