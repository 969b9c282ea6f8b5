"""What every layer needs: parameter checks, the bridge to torch, scikit-learn's private names."""
