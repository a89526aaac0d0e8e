"""The tunnel port: who may dial in, and what a tunnel is once it has."""
