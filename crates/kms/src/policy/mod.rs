//! Key policies in the JSON language of AWS.
