"""The nouns: frozen, validated, pure values. Import the module you need; nothing heavy is loaded here."""
