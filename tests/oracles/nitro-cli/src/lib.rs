//! Nothing but tests: AWS's nitro-cli against our program of that name.
