"""The web application of `ganctl dashboard`: reads the store, asks Ray and Prefect through one adapter each."""
