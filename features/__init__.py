"""Sound to numbers: reading audio, MFCC features, augmentation."""
