//! Kills, restarts, catching up and handing over: nothing acknowledged is lost.
