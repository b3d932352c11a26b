//! Another process of the same user at the owner's socket.
