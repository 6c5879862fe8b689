//! Rule model.
