//! What each process gives up before untrusted bytes reach it.
