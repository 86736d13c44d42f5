// dotnet run -- "a text" "another": first the self-test, then the model's answers.
using System;

public static class Program
{
    private const string Folder = "bundle";

    public static int Main(string[] texts)
    {
        using var model = new Model(Folder);
        var failures = SelfTest.Run(model, Folder, Console.WriteLine);
        if (failures > 0) return 1;
        foreach (var line in model.Show(texts)) Console.WriteLine(line);
        return 0;
    }
}
