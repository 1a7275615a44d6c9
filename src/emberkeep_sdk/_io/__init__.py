"""What differs between the two clients (threads, WebSockets): two modules, one interface."""
