"""The networks of the engines folders: listed, checked, downloaded. The daemon does none of it."""
