"""`python3 -m emberkeep_builder JOB`: build as the JSON text JOB says."""

from emberkeep_builder.main import main

if __name__ == "__main__":
    main()
